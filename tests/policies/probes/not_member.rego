# expect: equal
# opa: undefined
package envoy.authz
allow if not input.x in input.roles
