# expect: equal
# opa: undefined
package envoy.authz

import data.envoy.authz as me

is_one(x) if x == 1

allow if not me.is_one(input.n)
