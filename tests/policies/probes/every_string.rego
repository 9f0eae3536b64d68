# expect: equal
# opa: true
package envoy.authz
ok if every x in input.xs { x == 1 }
allow if not ok
