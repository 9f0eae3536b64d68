# expect: equal
# opa: undefined
package envoy.authz
allow if (input.a in [1]) == false
