# expect: equal
# opa: undefined
package envoy.authz
allow if not startswith(input.a, "x") with input.a as "xy"
