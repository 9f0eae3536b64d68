# expect: refused
# opa: undefined
package envoy.authz
f({"a": x}) := x
allow if not f(input.o)
