# expect: equal
# opa: true
package envoy.authz
ok if { some x in input.s; x == 1 }
allow if not ok
