# expect: equal
# opa: true
package envoy.authz
allow if not input.a == input.b
