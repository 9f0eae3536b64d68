# expect: refused
# opa: refused
package envoy.authz
default allow := false
allow contains 1
