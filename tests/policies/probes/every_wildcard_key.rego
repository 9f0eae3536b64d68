# expect: equal
# opa: true
package envoy.authz
allow if every _, v in input.xs { v == 1 }
