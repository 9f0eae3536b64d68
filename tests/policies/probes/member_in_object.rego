# expect: equal
# opa: undefined
package envoy.authz
allow := {"allowed": input.x in input.roles}
