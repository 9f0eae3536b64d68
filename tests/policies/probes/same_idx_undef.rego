# expect: equal
# opa: true
package envoy.authz
ok if { input.a[i]; input.b[i] }
allow if not ok
