# expect: refused
# opa: true
package envoy.authz
import rego.v2
allow if true
