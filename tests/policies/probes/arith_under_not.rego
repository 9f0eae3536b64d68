# expect: equal
# opa: true
package envoy.authz
p if input.a + 1 == 2
allow if not p
