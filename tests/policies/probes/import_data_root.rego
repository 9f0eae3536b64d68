# expect: equal
# opa: undefined
package envoy.authz
import data as d
blocked if input.x == 1
deny if d.envoy.authz.blocked
allow if not deny
