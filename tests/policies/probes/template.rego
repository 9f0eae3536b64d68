# expect: refused
# opa: true
package envoy.authz
allow if $"{input.x}" == "1"
