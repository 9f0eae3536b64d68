# expect: equal
# opa: true
package envoy.authz
allow if { some i; input.xs[i]; not input.ys[i] }
