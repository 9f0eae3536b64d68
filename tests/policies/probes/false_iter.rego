# expect: equal
# opa: true
package envoy.authz
allow if { x := input.a[_]; not x }
