# expect: equal
# opa: true
package envoy.authz
allow if { print(input.missing); true }
