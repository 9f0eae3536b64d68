# expect: equal
# opa: true
package envoy.authz
f([x, 1]) := x
allow if not f([2, 3])
