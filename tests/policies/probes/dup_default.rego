# expect: refused
# opa: refused
package envoy.authz
default allow := false
default allow := true
allow if input.x
