# expect: refused
# opa: true
package envoy.authz
allow if { {"a": x} := input.o; x == 1 }
