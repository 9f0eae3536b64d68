# expect: equal
# opa: true
package envoy.authz

allow if {
	every x in input.list {
		count(x) > 0
	}
}
