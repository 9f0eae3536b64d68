# expect: refused
# opa: true
package envoy.authz
h if not count(input.a, input.b)
allow if not h
