# expect: equal
# opa: undefined
package envoy.authz
p contains obj.b if { some obj in input.xs }
allow if count(p) == 0
