# expect: equal
# opa: error
package envoy.authz
p := 1 if input.x
p := 2 if input.x
allow if not p == 3
