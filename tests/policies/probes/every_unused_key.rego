# expect: refused
# opa: refused
package envoy.authz
allow if every k, v in input.xs { v == 1 }
