# expect: equal
# opa: undefined
package envoy.authz
allow if input.k, input.v in {"a":1}
