# expect: equal
# opa: true
package envoy.authz
f if input.x == 1
allow if f with input.x as 1
