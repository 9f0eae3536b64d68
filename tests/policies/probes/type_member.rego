# expect: refused
# opa: refused
package envoy.authz

allow if not 1 in {"a", "b"}
