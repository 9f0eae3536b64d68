# expect: refused
# opa: refused
package envoy.authz
import data.x as input
allow if input.n == 1
