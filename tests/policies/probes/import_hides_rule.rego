# expect: refused
# opa: undefined
package envoy.authz
import data.other.safe
safe if input.n == 1
allow if safe
