# expect: equal
# opa: error
package envoy.authz
allow := true if input.x
allow := false if input.x
