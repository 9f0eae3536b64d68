# expect: refused
# opa: refused
package envoy.authz

allow if not count(1)
