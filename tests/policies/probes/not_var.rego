# expect: refused
# opa: refused
package envoy.authz
allow if not input.xs[i] == 1
