# expect: refused
# opa: refused
package envoy.authz
allow if { some i; not input.xs[i] == 1 }
