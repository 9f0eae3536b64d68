# expect: refused
# opa: undefined
package envoy.authz
a[x].b contains c if { some x in ["k"]; c := 1 }
allow if not a.k.b[1]
