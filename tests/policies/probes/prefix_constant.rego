# expect: equal
# opa: true
package envoy.authz
a.b := 1
a.c := 2 if input.n == 2
allow if a == {"b": 1}
