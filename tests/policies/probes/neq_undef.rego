# expect: equal
# opa: undefined
package envoy.authz
allow if input.a != input.b
