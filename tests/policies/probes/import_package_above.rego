# expect: equal
# opa: undefined
package envoy.authz
import data.envoy as e
blocked if input.x == 1
deny if e["authz"].blocked
allow if not deny
