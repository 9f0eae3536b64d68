# expect: refused
# opa: true
package envoy.authz
import future.keywords.and
allow if true
