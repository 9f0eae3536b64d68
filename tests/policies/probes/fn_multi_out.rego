# expect: equal
# opa: error
package envoy.authz
f(x) := y if some y in x
allow if not f([1,2]) == 3
