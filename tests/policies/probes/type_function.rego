# expect: refused
# opa: refused
package envoy.authz

is_path(x) if startswith(x, "/")

allow if not is_path(1)
