# expect: refused
# opa: refused
package envoy.authz

allow if {
	x := 1
	not count(x)
}
