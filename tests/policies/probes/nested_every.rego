# expect: equal
# opa: true
package envoy.authz
ok if every x in input.xs { every y in x { y == 1 } }
allow if not ok
