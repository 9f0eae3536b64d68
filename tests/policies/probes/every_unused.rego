# expect: refused
# opa: refused
package envoy.authz
allow if every x in input.xs { input.n == 1 }
