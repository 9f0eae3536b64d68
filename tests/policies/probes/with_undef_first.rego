# expect: refused
# opa: undefined
package envoy.authz
f if not input.x
allow if f with input.x as input.missing with input.y as 1
