# expect: equal
# opa: true
package envoy.authz
p if to_number(input.x) > 0
allow if not p
