# expect: equal
# opa: undefined
package envoy.authz
p { input.a } { input.b }
allow { not p }
