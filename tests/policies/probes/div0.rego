# expect: equal
# opa: true
package envoy.authz
p if 1 / input.a == 2
allow if not p
