# expect: equal
# opa: true
package envoy.authz
p if count(input.a | {1}) == 1
allow if not p
