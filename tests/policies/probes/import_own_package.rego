# expect: equal
# opa: undefined
package envoy.authz
import data.envoy.authz
blocked if input.x == 1
deny if authz.blocked
allow if not deny
