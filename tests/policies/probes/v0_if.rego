# expect: refused
# opa: refused
package envoy.authz
allow if { input.x }
foo { true }
