# expect: equal
# opa: true
package envoy.authz

allow if not 1.1 + 2.2 == 3.3
