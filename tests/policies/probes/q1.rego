# expect: equal
# opa: undefined
package envoy.authz
allow if not input.a != "x"
