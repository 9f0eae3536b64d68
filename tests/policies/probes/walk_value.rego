# expect: refused
# opa: undefined
package envoy.authz
found if { some p, v in walk(input); v == "evil" }
allow if not found
