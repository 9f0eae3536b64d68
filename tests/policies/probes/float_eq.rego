# expect: equal
# opa: true
package envoy.authz
allow if 0.1 + 0.2 == 0.3
