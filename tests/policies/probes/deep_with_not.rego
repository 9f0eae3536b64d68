# expect: equal
# opa: true
package envoy.authz
f if not input.x
allow if not f with input as {"x":1}
